"""An application that has nothing but Python's own sqlite3: it inserts events as documented.

    insert.py DATABASE

Commits one event and rolls another back; prints the id of each.
"""

import sqlite3
import sys

INSERT = "INSERT INTO postrider_outbox (event_type, payload) VALUES (?, ?) RETURNING id"

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for event_type, end in (("invoice.paid", "COMMIT"), ("invoice.lost", "ROLLBACK")):
    connection.execute("BEGIN IMMEDIATE")
    (event,) = connection.execute(INSERT, (event_type, '{"id": 1, "by": "Python"}')).fetchone()
    connection.execute(end)
    print(event)
