package store

// ListExpired is the statement of leases.ListExpired, to be explained by the database.
const ListExpired = listExpired
