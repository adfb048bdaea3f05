"""The command line `flexiflow`, from its arguments down to the bytes that it reads and writes.

`commands`, `durable_commands` and `looking_commands` declare the commands. Each command has a
module: `session` (run), `graph`, `verify`, `worker` (bridge), `letters` (dead), `tail`, `backup`,
`status`, `groups`, `scheduled`. They share `target`, which loads what the user names, `connecting`,
which opens a transport, `display` for standard error and `writer` for standard output. What
strangers wrote passes through `text` or `output`, so that no terminal obeys it.
"""
