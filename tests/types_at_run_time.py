"""What checks annotations while tests run: beartype, with an int where a float is asked for.

Type checkers allow that too (PEP 484); beartype by itself does not.
"""

from beartype import BeartypeConf, beartype

check_types = beartype(conf=BeartypeConf(is_pep484_tower=True))
