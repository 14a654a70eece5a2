"""How a cohort's models become one: stacks of models, rules, clipping, the server's optimizer."""
