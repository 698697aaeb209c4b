"""Runs every benchmark and prints its table."""

from benchmarks import receive

if __name__ == "__main__":
    receive.main()
