// Package config reads settings: the YAML file, sizes as people write them, and the masking of
// secrets wherever a setting is shown. Both binaries take every setting as a flag, an environment
// variable or a key of the file; internal/cli puts the three in order.
package config
