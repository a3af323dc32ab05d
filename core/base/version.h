/* version.h: what `jeton --version`, status and Via call this program. */
#ifndef JETON_BASE_VERSION_H
#define JETON_BASE_VERSION_H

#define JETON_VERSION "0.1.0"

#endif
