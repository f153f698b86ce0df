"""What the programs of this folder share: a parser whose errors hw4lib's entry tells."""

import sys

if __name__ == "__main__":
    print("command_line.py: error: no program; train_speed.py uses it", file=sys.stderr)
    sys.exit(2)

from backstage import parser
from hw4lib.errors import UserError


class Parser(parser.Parser):
    """That of hw04, with the UserError of hw4p1."""

    def error(self, message: str):
        raise UserError(f"{message} ({self.prog} -h lists the flags)")
