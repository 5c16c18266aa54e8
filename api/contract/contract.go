// Package contract gathers what one service has to keep: its document of package api and the topics of package events.
package contract

import (
	"github.com/convoflow/convoflow/api"
	"github.com/convoflow/convoflow/api/events"
	"github.com/convoflow/convoflow/libs/service"
)

// Of is the contract of the service of that name.
func Of(name string) service.Contract {
	document := func() ([]byte, error) { return api.Document(name) }
	return service.Contract{Name: name, OpenAPI: document, Topics: events.Topics(), Sessions: api.Sessions()}
}
