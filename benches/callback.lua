-- For wrk: stream-begin callbacks of 590 bytes, each unlike all others. The last line of the output is the result as JSON.
--
--   wrk -t1 -c64 -d8s --latency -s benches/callback.lua http://127.0.0.1:8080/css -- T SIGN SEED
--
-- T, SIGN: as in the body; a signature covers only the key and T, so one does for all. SEED: up to 9999, another one for each
-- run against the same store, which would otherwise take the sequences for repeats.

local SIZE = 590
local STREAMS = 1000

local template, seed
local count = 0

-- Everything has a fixed width, so that a request is one `format`: the generator shares the cores with what it measures.
function init(args)
   local t, sign = args[1], args[2]
   seed = tonumber(args[3])
   -- The members of tests/fixtures/stream-begin.json, with those that the platform adds.
   local body = '{"app":"push.example.com","appid":1250000000,"appname":"live","channel_id":"room-%03d","errcode":0,'
      .. '"errmsg":"ok","event_time":' .. string.format("%d", t - 600) .. ',"event_type":1,"height":0,"idc_id":35,'
      .. '"node":"203.0.113.21","sequence":"%04d%015d","set_id":2,"stream_id":"room-%03d",'
      .. '"stream_param":"txSecret=f85a2ab363fe4deaffef9754d79da6fe&txTime=6B04D280&note=PADDING",'
      .. '"user_ip":"198.51.100.4","width":0,"pusher_agent":{"name":"推流助手","version":3.10,'
      .. '"build":20261123000000000001},"t":' .. t .. ',"sign":"' .. sign .. '"}'
   local short = SIZE - #string.format(body, 0, 0, 0, 0)
   body = body:gsub("PADDING", "PADDING" .. string.rep("-", short))
   template = "POST " .. wrk.path .. " HTTP/1.1\r\nHost: " .. wrk.headers["Host"]
      .. "\r\nContent-Type: application/json\r\nContent-Length: " .. SIZE .. "\r\n\r\n" .. body
end

function request()
   count = count + 1
   local room = count % STREAMS
   return string.format(template, room, seed, count, room)
end

-- `errors.status` counts only 400 and above, but nothing here redirects, and what was stored is counted, too.
function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"answers":%d,"failed":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f}\n',
      summary.requests, errors.status + errors.connect + errors.read + errors.write + errors.timeout,
      summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3
   ))
end
