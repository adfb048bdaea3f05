"""The scheduling engine: runs scenarios in virtual time, under chosen schedules (P2, P3)."""
