// Package config reads plexusd's configuration: flags over the environment over
// the file over documented defaults. It checks all of it before anything starts
// and is the only importer of viper.
package config
