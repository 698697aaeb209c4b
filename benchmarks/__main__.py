"""Runs every benchmark and prints its table."""

from benchmarks import first_answer, language_speed, receive

if __name__ == "__main__":
    receive.main()
    language_speed.main([])
    first_answer.main([])
