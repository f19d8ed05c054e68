// Package resident keeps small what the program occupies of memory.
package resident
