package web

import (
	"context"
	"io"

	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/calls/internal/call"
)

// source returns the server-sent events of a stream. One that was not resumed begins with the call, or with a reset.
func source(s *call.Stream) rpc.Source {
	begun := false
	seen := int64(0)
	return rpc.Source{Wake: s.Wake(), Close: s.Close, Next: func(ctx context.Context) (messages []rpc.Message, err error) {
		if !begun && !s.Resumed {
			messages = append(messages, first(s))
		}
		if s.First != nil {
			seen = s.First.Version
		}
		begun = true
		changes, err := s.Next(ctx)
		for _, c := range changes {
			if c.Version <= seen {
				continue // First has it
			}
			messages = append(messages, message(c))
			if c.Deleted && s.OfOne() {
				return messages, io.EOF
			}
		}
		return messages, err
	}}
}

func first(s *call.Stream) rpc.Message {
	if s.First != nil {
		return message(*s.First)
	}
	return rpc.Message{ID: s.Position, Name: "reset", Data: struct{}{}}
}

func message(c call.Change) rpc.Message {
	name := "call"
	if c.Deleted {
		name = "deleted"
	}
	return rpc.Message{ID: c.Position, Name: name, Data: c}
}
