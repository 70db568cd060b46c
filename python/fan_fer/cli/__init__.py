"""The commands of ``fan-fer``, a module each with ``add_parser`` and ``run``.

Modules that take long to import are imported where they are used, so that ``fan-fer --help`` is quick.
"""
