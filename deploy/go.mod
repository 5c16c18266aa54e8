module github.com/convoflow/convoflow/deploy

go 1.26.0


