-- Sends the requests of a file in random order. A line is a token and a path; they are made once, for wrk is on the cores of
-- what it measures.
local requests = {}

init = function(args)
  for line in io.lines(args[1]) do
    local token, path = line:match("^(%S+) (%S+)$")
    requests[#requests + 1] = wrk.format("GET", path, { Authorization = "Bearer " .. token })
  end
end

request = function()
  return requests[math.random(#requests)]
end

