"""Tables at random, and what each task type makes of them computed in the clear.

Each module is about one task type. ``strategy()`` makes cases (tables and a task that the product takes), and
``check(case, answers, output)`` compares every figure and row with the clear: ``answers`` is each party's result,
``output(party, name)`` the text of one of its outputs. ``examples()`` are the cases that once failed.
"""
