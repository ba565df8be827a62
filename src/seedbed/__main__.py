"""`python -m seedbed` is the command line, under `torchrun` too."""

from seedbed.cli.app import main

if __name__ == "__main__":
    main()
