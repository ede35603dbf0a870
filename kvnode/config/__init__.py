"""Configuration of `kvnode serve`: read from four places, checked once, then frozen.

Every option has one name and three spellings: the flag `--peer-listen`, the variable
`KVNODE_PEER_LISTEN`, and the key `peer_listen` of the TOML file that `--config` names. The first
of flag, environment, file and default that gives a value wins, and the configuration remembers
which one it was (`origins`), because "where does this value come from" is what an operator asks.

All three spellings carry text, so one parser per option judges them all. A wrong value is one
sentence that begins with its origin. A wrong *flag* is a usage error (exit 64); a wrong variable,
file or combination is a wrong configuration (exit 78): a supervisor must not restart into it.

```
values.py     the grammar of single values: durations, sizes, names, addresses
options.py    the table of all options
sources.py    from flags, environment and file to one text per option, and to its value
checks.py     what follows from other options, and what they add up to
serve.py      the configuration itself, and how it is loaded
```
"""
