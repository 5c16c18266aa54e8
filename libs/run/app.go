package run

import "context"

// App is a service that is listening and can be run.
type App struct {
	group *Group
	http  *Server
	ready Ready
}

// NewApp returns an App. g contains http and the other actors.
func NewApp(g *Group, http *Server, ready Ready) *App { return &App{g, http, ready} }

// Run serves until ctx ends, then drains requests and stops and closes everything. Call it once.
func (a *App) Run(ctx context.Context) error { return a.group.Run(ctx) }

// Addr returns the address of the API, host:port.
func (a *App) Addr() string { return a.http.Addr() }

// Ready fails while the service cannot serve requests.
func (a *App) Ready(ctx context.Context) error { return a.ready(ctx) }
