// Package deploy is how Convoflow runs elsewhere: images, Compose, Kubernetes. It has no code of its own; its tests hold the
// files against the services, without a container engine or a cluster.
package deploy
