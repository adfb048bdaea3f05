"""The reference implementation: the contract in code that is as simple as can be.

It has a bus, streams, limits, instruments, and an engine with components, which share hardly any
code with the library, and a transport that wraps the one in memory. Speed is no concern here. Each
step is a method of its own.

It serves two purposes. The checks of `flexiflow.testing` must accept it, which shows that they ask
for no more than the contract does. And each fault in `properties.faults` is a subclass that gets
one step wrong, which the checks must find.
"""
