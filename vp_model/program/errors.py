"""What goes wrong in a program."""

from __future__ import annotations


class ProgramError(Exception):
    """The program cannot be run. The message says what is wrong and what is possible; α reads it as feedback.

    Attributes:
        line: line of the step's code, from 1; 0 where no line is to blame.
    """

    def __init__(self, message: str, line: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.line = line

    def __str__(self) -> str:
        return f"line {self.line}: {self.message}" if self.line else self.message

    def at(self, line: int) -> ProgramError:
        """The same error, with its line where it had none."""
        return self if self.line else ProgramError(self.message, line)
