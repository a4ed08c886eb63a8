/* What the two halves of the floor have in common. */
#ifndef FLOOR_H
#define FLOOR_H

/* Say on standard error what is wrong, and exit. */
__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...);

/* An address, of either family, that nobody must have. */
void add_question(const char *address);

/* Ask everybody on the bridge for all of them, from the bridge's own interface; nothing when there are none. */
void ask_all(const char *bridge);

/* Fail if somebody has said so, or does so in time. */
void check_free(void);

#endif
