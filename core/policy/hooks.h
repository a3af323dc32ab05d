/* hooks.h: the functions that a policy may have at its top level, in one table. Reading a policy (keys.c), binding it to a VM (binding.c) and the
 * names in messages follow from here; the step that runs a hook asks policy->hooks[] whether there is one and finds its function in binding->hooks[]. */
#ifndef JETON_POLICY_HOOKS_H
#define JETON_POLICY_HOOKS_H

/* name in C, key in the policy. In the order in which the keys are listed to the user. */
#define HOOKS(XX)             \
  XX(START, "on_start")       \
  XX(REQUEST, "on_request")   \
  XX(SEND, "on_send")         \
  XX(RESPONSE, "on_response") \
  XX(ERROR, "on_error")       \
  XX(LOG, "on_log")

enum hook {
#define XX(name, key) HOOK_##name,
  HOOKS(XX)
#undef XX
      HOOK_COUNT
};

const char *hook_name(enum hook hook); /* the key: "on_request" */

#endif
