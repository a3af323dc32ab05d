--- Raw requests and replies by the hundred (spec/security/corpus) through the proxy, judged by a strict reader on both sides of it.
local corpus = require "spec.support.corpus"
local jeton = require "spec.support.jeton"

--- What comes of a case may not depend on these: %s is the upstream's URL.
local policies = {
  { "a plain proxy", "upstream = '%s'" },
  { "a proxy that keeps Host and tells who asked", "upstream = { '%s', preserve_host = true }, via = true, forwarded = 'set'" },
  { "a proxy whose hooks wait for bodies", [[upstream = '%s',
    on_request = function(req)
      req.headers["x-seen"] = "1"
      if req.method == "PUT" then req:body() end
    end,
    on_response = function(res) res:body() end]] },
}

for _, policy in ipairs(policies) do
  for _, family in ipairs(corpus.families) do
    describe(("the corpus of %s through %s"):format(family, policy[1]), function()
      local upstream, proxy
      setup(function()
        upstream = corpus.upstream()
        proxy = jeton.start(("return { listen = '127.0.0.1:0', log = { access = false }, %s }"):format(policy[2]:format("http://127.0.0.1:" .. upstream.port)))
      end)
      for _, case in ipairs(corpus.load { family }) do
        it(("%s: %s (%s)"):format(case.expect, case.name, case.rule), function()
          local fits, why = corpus.fits(case, corpus.run(case, proxy.port, upstream, 10))
          assert(fits, why)
        end)
      end
      it("ends well", function()
        proxy:finish()
        upstream:close()
      end)
    end)
  end
end
