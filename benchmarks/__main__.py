"""Runs every benchmark that needs no GPU and prints its table; `benchmarks.gpu` runs those that need one."""

from benchmarks import (
    first_answer,
    language_speed,
    loading,
    receive,
    results,
    synthesis,
    vision_fine,
    vision_memory,
    vision_native,
    vision_peak,
    vision_prompts,
)

if __name__ == "__main__":
    receive.main()
    loading.main([])
    results.main()
    synthesis.main([])
    vision_native.main([])
    vision_memory.main([])
    vision_peak.main([])
    vision_prompts.main([])
    vision_fine.main([])
    language_speed.main([])
    first_answer.main([])
