--- A name server of the specs' own (spec/support/dns_stub.lua) in a network and a mount namespace with its own resolv.conf, which a proxy can join.
local jeton = require "spec.support.jeton"
local process = require "spec.support.process"
local busted = require "busted"

local M = {}

---@class Dns
local Dns = {}
Dns.__index = Dns

--- `addresses` are further ones of that network ("203.0.113.5/32"), and what is sent to those in `silent` gets lost. Nil where the kernel does not grant namespaces.
function M.start(addresses, silent)
  local dir = process.temp_dir()
  process.write_file(dir .. "/resolv.conf", "nameserver 127.0.0.1\noptions timeout:5 attempts:1\n")
  process.write_file(dir .. "/nsswitch.conf", "hosts: files dns\n")
  local more = {}
  for i, address in ipairs(addresses or {}) do more[i] = "ip address add " .. address .. " dev lo" end
  if silent then -- a wire whose other end belongs to nobody
    more[#more + 1] = "ip link add hole type veth peer name hole2\nip link set hole up\nip link set hole2 up"
    more[#more + 1] = "ip address add 192.0.2.1/32 dev hole\nip -6 address add 2001:db8::1/64 dev hole nodad" -- a family that the system has not is not asked for
  end
  for _, address in ipairs(silent or {}) do
    more[#more + 1] = ("ip route add %s dev hole\nip neigh add %s lladdr 02:00:00:00:00:01 dev hole"):format(address, address)
  end
  local p = process.start { "unshare", "--net", "--mount", "sh", "-ec", ([[
    ip link set lo up
    %s
    mount --bind %s/resolv.conf /etc/resolv.conf
    mount --bind %s/nsswitch.conf /etc/nsswitch.conf
    exec lua5.4 spec/support/dns_stub.lua %s]]):format(table.concat(more, "\n"), dir, dir, dir) }
  process.poll(function() return p:output():find "ready" or p:ended() end, 10, "the name server")
  return not p.code and setmetatable({ process = p, dir = dir }, Dns) or nil
end

--- busted's `it` for what needs the name server that `stub` gives: pending where there is none.
function M.it(stub)
  return function(name, body)
    busted.it(name, function()
      if not stub() then return busted.pending "no namespaces here" end
      body()
    end)
  end
end

--- From now on the name `from-NAME.…` is answered as the name `label.…` is.
function Dns:say(name, label) process.write_file(self.dir .. "/name-" .. name, label) end

function Dns:stop() self.process:stop() end

--- A proxy in the same namespaces, on the Unix socket `target`; `policy` is the text of its keys but for `listen`, `options` those of jeton.start.
function Dns:jeton(policy, options)
  local own = process.temp_dir()
  local wrapper = process.write_file(own .. "/jeton", ("#!/bin/sh\nexec nsenter --target %d --net --mount %s \"$@\"\n"):format(self.process.pid, jeton.binary))
  assert(os.execute("chmod 755 " .. wrapper))
  local real = jeton.binary
  jeton.binary = wrapper
  options = options or {}
  options.policy = ([[return { listen = "unix:%s/in.sock", %s }]]):format(own, policy)
  local ok, p = pcall(jeton.start, options)
  jeton.binary = real
  assert(ok, p)
  p.target = "unix:" .. own .. "/in.sock"
  return p
end

return M
