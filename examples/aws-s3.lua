-- Buckets of S3 for clients without AWS's credentials: requests are signed with those of a profile, or of the instance of EC2 that this runs on.

local aws = require "jeton.aws"

return {
  listen = jeton.env.LISTEN or "127.0.0.1:8080",
  upstream = jeton.env.UPSTREAM or "https://s3.eu-west-1.amazonaws.com",

  tokens = { aws = jeton.env.AWS_PROFILE and aws.profile() or aws.imds() },

  -- Before each try, since a signature is good for one. "unsigned" leaves the body out, which streams then.
  on_send = function(req, tokens)
    aws.sign(req, tokens.aws, { service = "s3", region = "eu-west-1", payload = req.method == "PUT" and "unsigned" or "hash" })
  end,
}
