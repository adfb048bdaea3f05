"""The bridge between a bus and a transport: what leaves the bus, and what a worker handles."""
