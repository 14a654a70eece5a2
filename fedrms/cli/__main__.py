"""``python -m fedrms.cli``: the ``fedrms`` command without its script."""

from fedrms.cli.simulate import main

main()
