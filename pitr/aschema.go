package pitr

// schemaMap says which objects of the archive go into another schema than their own. A nil map leaves all
// where they are.
type schemaMap struct {
	to    string // unquoted
	names map[qualifiedName]bool
}

// qualifiedName is an object of the source; functions and operators go without their arguments.
type qualifiedName struct{ namespace, name string }

// has reports whether the object goes into the other schema.
func (m *schemaMap) has(namespace, name string) bool {
	return m != nil && m.names[qualifiedName{namespace, name}]
}

// target gives an object's schema and name on the target.
func (m *schemaMap) target(namespace, name string) (string, string) {
	if m.has(namespace, name) {
		return m.to, name
	}
	return namespace, name
}

// schema is the other schema; "" without one.
func (m *schemaMap) schema() string {
	if m == nil {
		return ""
	}
	return m.to
}

// quoted quotes an object's name on the target.
func (r *run) quoted(namespace, name string) string {
	return quoteName(r.names.target(namespace, name))
}
