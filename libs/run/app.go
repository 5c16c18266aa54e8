package run

import "context"

// App is a process that listens and is ready to run.
type App struct {
	group *Group
	http  *Server
	ready Ready
}

// NewApp makes an App of its parts.
func NewApp(g *Group, http *Server, ready Ready) *App { return &App{g, http, ready} }

// Run serves until ctx ends, then drains and closes everything. Call it once.
func (a *App) Run(ctx context.Context) error { return a.group.Run(ctx) }

// Addr is where the API listens, host:port.
func (a *App) Addr() string { return a.http.Addr() }

// Ready fails while requests cannot be answered.
func (a *App) Ready(ctx context.Context) error { return a.ready(ctx) }
