// Package contract builds the contract of one service: its document from package api and the topics from package events.
package contract

import (
	"github.com/convoflow/convoflow/api"
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/pg"
	"github.com/convoflow/convoflow/libs/service"
)

// Of returns the contract of the named service, which has the tables of migrations.
func Of(name string, migrations pg.Migrations) service.Contract {
	document := func() ([]byte, error) { return api.Document(name) }
	return service.Contract{Name: name, OpenAPI: document, Topics: events.Topics(), Sessions: api.Sessions(), Migrations: migrations}
}
