"""Words that titles and names are made of."""

FIRST_NAMES = (
    "Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Greta", "Hugo", "Ines", "Jan", "Kira", "Leo", "Mia",
    "Nils", "Olga",
    "Paul", "Rita", "Sven", "Tess", "Uma", "Vera", "Willi", "Xenia", "Yann", "Zoe",
)  # fmt: skip
LAST_NAMES = (
    "Acorn", "Alder", "Ash", "Beech", "Birch", "Bramble", "Cedar", "Clover", "Elder", "Fern", "Hazel",
    "Heather", "Holly",
    "Juniper", "Larch", "Linden", "Maple", "Moss", "Oak", "Pine", "Reed", "Rowan", "Sedge", "Thistle", "Willow",
)  # fmt: skip
TEAMS = (
    "Service desk", "Workplace", "Network", "Databases", "Tills", "Warehouse systems", "Finance systems",
    "Web shop",
    "Identity", "Messaging", "Storage", "Security", "Plant north", "Plant south", "Field service", "Release office",
)  # fmt: skip
PRODUCTS = (
    "Billing", "Ledger", "Till software", "Label printer driver", "Stock keeper", "Order gateway", "Mail client",
    "Scanner firmware", "Route planner", "Web shop", "Time clock", "Badge reader", "Backup agent", "Message broker",
    "Report server", "File sync", "Meeting rooms", "Price display", "Payment terminal", "Tax module", "Archive",
    "Sensor gateway", "Cooling control", "Camera service",
)  # fmt: skip
PLACES = (
    "Harbour Street", "Mill Lane", "Station Square", "North Gate", "Old Market", "Castle Hill", "Bridge Road",
    "Garden Row", "Warehouse 3", "Warehouse 7", "Plant north", "Plant south", "Head office", "Call centre",
    "Ferry Pier",
)  # fmt: skip
SYMPTOMS = (
    "does not start", "is slow", "shows a blank page", "loses the connection", "prints twice", "prints nothing",
    "asks for the password again", "reports error {code}", "hangs at closing", "cannot be reached",
    "shows wrong prices",
    "does not synchronise", "runs out of memory", "rejects the certificate", "restarts by itself", "fills the disk",
)  # fmt: skip
CAUSES = (
    "leaks memory", "fails under load", "times out against the ledger", "loses orders at midnight",
    "breaks on long names",
    "deadlocks with the archive", "forgets its settings after an update", "floods the log",
)  # fmt: skip
DESCRIPTIONS = (
    "It worked **yesterday**. Since today it fails every tenth time.\n\n- tried: restart\n- tried: a cable",
    "Several colleagues see the same. The message is `E{code}`; it goes away after some minutes.",
    "Started after the break. Customers are waiting; please call back.",
    "Only on this device. Its neighbour works with the same account.",
)  # fmt: skip
COMMENTS = (
    "Looked at the log: nothing before `E{code}`.", "Called back; the caller confirms it.", "It came back at noon.",
    "The vendor asks for a trace.", "Restarted the service, watching it.", "Still the same here.",
    "Could reproduce it with a long name.", "Handed over to the evening shift.",
)  # fmt: skip
RESOLUTIONS = (
    "Restarted the service.", "Replaced the cable.", "Cleared the queue and reset the driver.",
    "Renewed the certificate.",
    "Installed the newer version.", "Explained how it works.",
)  # fmt: skip
