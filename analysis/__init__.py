"""Pure functions of arrays: scorers, oracles, metrics, signals, gaps, and the report on them. Imports none of ours."""
