/* list.h: an intrusive, circular, doubly linked list. A link that is in no list points to itself. */
#ifndef JETON_BASE_LIST_H
#define JETON_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct link {
  struct link *next, *prev;
};

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct link *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct link *l) { return l->next == l; }
static inline void list_push(struct link *head, struct link *l) { /* at the tail */
  l->prev = head->prev;
  l->next = head;
  head->prev->next = l;
  head->prev = l;
}
static inline void list_push_front(struct link *head, struct link *l) { list_push(head->next, l); }
static inline void list_remove(struct link *l) { /* also fine when l is in no list */
  l->prev->next = l->next;
  l->next->prev = l->prev;
  list_init(l);
}
static inline struct link *list_pop(struct link *head) { /* the first, or NULL */
  struct link *l = head->next;
  if (l == head) return NULL;
  list_remove(l);
  return l;
}
static inline void list_splice(struct link *to, struct link *from) { /* moves all of `from` to the tail of `to` */
  if (list_empty(from)) return;
  from->next->prev = to->prev;
  to->prev->next = from->next;
  from->prev->next = to;
  to->prev = from->prev;
  list_init(from);
}

#endif
