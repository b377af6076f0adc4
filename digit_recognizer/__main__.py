"""`python -m digit_recognizer`, the same as the command `digit-recognizer`."""

from digit_recognizer.cli import main

if __name__ == "__main__":
    main()
