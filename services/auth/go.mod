module github.com/convoflow/convoflow/services/auth

go 1.26.0

require github.com/convoflow/convoflow/api v0.0.0
require github.com/convoflow/convoflow/libs v0.0.0

replace github.com/convoflow/convoflow/api => ../../api
replace github.com/convoflow/convoflow/libs => ../../libs
