-- wrk calls this once, after a run; load.Wrk reads it.
done = function(summary)
  local e = summary.errors
  io.write(string.format("\nDONE %d %d %d %d\n", summary.requests, summary.duration,
    e.status, e.connect + e.read + e.write + e.timeout))
end
