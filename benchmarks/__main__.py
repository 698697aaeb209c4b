"""Runs every benchmark and prints its table."""

from benchmarks import first_answer, language_speed, loading, receive, results, synthesis

if __name__ == "__main__":
    receive.main()
    loading.main([])
    results.main()
    synthesis.main([])
    language_speed.main([])
    first_answer.main([])
