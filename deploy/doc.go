// Package deploy has the files to run Convoflow in production: images, Compose, Kubernetes. It has no code; its tests check the
// files against the services, without a container engine or a cluster.
package deploy
