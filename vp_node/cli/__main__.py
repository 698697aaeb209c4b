"""`python -m vp_node.cli`."""

from vp_node.cli import main

if __name__ == "__main__":
    main()
