-- wrk's part of serving_load.py: each request has another text, and a line of JSON at the end says how it went.
-- Arguments: a number to begin with, and the text, in which %d is replaced.

local threads = 0

function setup(thread)
   thread:set("place", threads)
   threads = threads + 1
end

function init(arguments)
   math.randomseed(tonumber(arguments[1]) + place)
   body = '{"text": "' .. arguments[2] .. '"}'
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
end

function request()
   return wrk.format(nil, nil, nil, body:format(math.random(1000000000)))
end

function done(summary, latency)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   local line = '{"calls": %d, "failed": %d, "microseconds": %d, "median": %d, "p99": %d}\n'
   io.write(line:format(summary.requests, failed, summary.duration, latency:percentile(50), latency:percentile(99)))
end
