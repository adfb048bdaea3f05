"""Delivery: how the handlers of one publish are called, and who judges what leaves them.

- `sequential` and `concurrent` call the handlers, in the three ways that users can choose from (D1
  to D3).
- `call` calls a handler that has terms or is watched by instruments, for both of them.
- `verdict` judges what leaves a handler, and reports failures.

`publish` and the dispatcher have loops of their own for the commonest cases (`_dispatcher`), which
judge and report in the same way.
"""
