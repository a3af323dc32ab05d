--- Is a refresh invisible? The same load with a token that is refreshed every second and a reload every two, and without either, in segments
--- that take turns; those without are half as long. The percentiles are those of all segments together.
local peers = require "spec.bench.lib.peers"
local report = require "spec.bench.lib.report"
local load = require "spec.bench.lib.load"
local process = require "spec.support.process"
local uv = require "luv"

local M = { name = "refresh", title = "A refresh every second and a reload every two" }

local SEGMENT, RELOAD = 10, 2 -- s

local COLUMNS = {
  { "", function(r) return r.name end },
  { "seconds", function(r) return ("%.0f"):format(r.seconds) end },
  { "requests", function(r) return ("%d"):format(r.requests) end },
  { "failed", function(r) return ("%d"):format(r.failed) end },
  { "p50 ms", function(r) return ("%.2f"):format(load.percentile(r.histogram, 50) / 1e3) end },
  { "p99 ms", function(r) return ("%.2f"):format(load.percentile(r.histogram, 99) / 1e3) end },
  { "p99.9 ms", function(r) return ("%.2f"):format(load.percentile(r.histogram, 99.9) / 1e3) end },
  { "of without", function(r, without) return ("%.2f"):format(load.percentile(r.histogram, 99.9) / load.percentile(without.histogram, 99.9)) end },
  { "refreshes", function(r) return ("%d"):format(r.refreshes) end },
  { "reloads", function(r) return ("%d"):format(r.reloads) end },
}

--- Runs `work` while jeton is told to reload every two seconds; returns how often it was, and what work returned. A reload that fails is an error.
local function reloading(peer, work)
  local asked = {}
  local timer = uv.new_timer()
  timer:start(0, RELOAD * 1000, function()
    asked[#asked + 1] = process.start { peer.binary, "reload", "--control", peer.jeton.control_path }
  end)
  local run = work()
  timer:close()
  for _, p in ipairs(asked) do
    if p:wait(30) ~= 0 then error("a reload failed: " .. p:errors(), 0) end
  end
  return #asked, run
end

local function add(sum, run, reloads)
  sum.seconds, sum.requests, sum.failed = sum.seconds + run.seconds, sum.requests + run.requests, sum.failed + run.failed
  sum.reloads = sum.reloads + reloads
  sum.histogram = load.merge { sum.histogram, run.histogram }
end

local function sum_of(name) return { name = name, seconds = 0, requests = 0, failed = 0, reloads = 0, histogram = {} } end
local function generation(peer) return peer.jeton:status().tokens[1].generation end

function M.run(bench)
  local origin = peers.origin()
  local quiet, busy = peers.jeton(origin, "token"), peers.jeton(origin, "refreshed")
  local without, with = sum_of "without", sum_of "with both"
  local segments = math.max(1, math.ceil(bench.refresh_seconds / SEGMENT))
  local length = math.min(SEGMENT, bench.refresh_seconds)
  local function work(peer, seconds) return function() return load.wrk(peer.url .. "/", { seconds = seconds }) end end
  work(quiet, 1)()
  work(busy, 1)()
  without.refreshes, with.refreshes = -generation(quiet), 0
  for i = 1, segments do
    bench.progress(("segment %d of %d"):format(i, segments))
    add(without, work(quiet, length / 2)(), 0)
    local before = generation(busy)
    local reloads, run = reloading(busy, work(busy, length))
    add(with, run, reloads)
    with.refreshes = with.refreshes + generation(busy) - before
  end
  without.refreshes = without.refreshes + generation(quiet)
  return { report.table("64 connections", COLUMNS, { without, with }, "without") }
end

return M
