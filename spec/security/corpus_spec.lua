--- Raw requests by the hundred (spec/security/corpus) through a plain proxy, judged by a strict reader on both sides of it.
local corpus = require "spec.support.corpus"
local jeton = require "spec.support.jeton"

for _, family in ipairs(corpus.families) do
  describe("the corpus of " .. family, function()
    local upstream, proxy
    setup(function()
      upstream = corpus.upstream()
      proxy = jeton.start(("return { listen = '127.0.0.1:0', upstream = 'http://127.0.0.1:%d', log = { access = false } }"):format(upstream.port))
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
