package web

import (
	"compress/gzip"
	"fmt"
	"net/http"
	"strings"

	"github.com/convoflow/convoflow/libs/identity/access"
	"github.com/convoflow/convoflow/libs/rpc"
	"github.com/convoflow/convoflow/services/auth/internal/agent"
	"github.com/convoflow/convoflow/services/auth/internal/key"
)

// compressFrom is the size in bytes from which a list is compressed.
const compressFrom = 1024

// signedRevocations responds with a page of revocations as libs/identity/access reads it.
func signedRevocations(keys *key.Ring) rpc.Option {
	return rpc.Respond(func(w http.ResponseWriter, r *http.Request, page agent.RevocationPage) error {
		list := access.Revocations{Nonce: page.Nonce, Entries: make([]access.Revocation, len(page.Entries)), Next: page.Next, More: page.More}
		for i, e := range page.Entries {
			list.Entries[i] = access.Revocation{ID: e.ID, Version: e.Version, Revoked: e.Revoked}
		}
		body, signature, err := list.Sign(keys.SignText)
		if err != nil {
			return err
		}
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "no-store")
		h.Set(access.SignatureHeader, signature)
		if len(body) < compressFrom || !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			_, _ = w.Write(body) // fails only if the client has disconnected
			return nil
		}
		h.Set("Content-Encoding", "gzip")
		zip := gzip.NewWriter(w)
		_, _ = zip.Write(body)
		if err := zip.Close(); err != nil {
			return fmt.Errorf("compress the revocations: %w", err)
		}
		return nil
	})
}
