package ddl

import "fmt"

// toBytes turns the strings of a message from a database without an encoding back into its bytes: each was
// written as the character of that number.
func (m *Message) toBytes() error {
	texts := []*string{&m.SQL, &m.User, &m.Inexact}
	for i := range m.Tables {
		texts = append(texts, &m.Tables[i])
	}
	for _, list := range [][]Object{m.Objects, m.Dropped} {
		for i := range list {
			texts = append(texts, &list[i].Schema, &list[i].Name, &list[i].Identity)
		}
	}
	for i := range m.Copied {
		texts = append(texts, &m.Copied[i].Name, &m.Copied[i].SQL, &m.Copied[i].Comment)
	}
	for i := range m.Chosen {
		texts = append(texts, &m.Chosen[i].Table, &m.Chosen[i].Parent, &m.Chosen[i].Column, &m.Chosen[i].Name)
	}
	for i := range m.State {
		texts = append(texts, &m.State[i].Schema, &m.State[i].Name)
	}
	for _, text := range texts {
		b, err := bytesOf(*text)
		if err != nil {
			return err
		}
		*text = b
	}
	for name, value := range m.Settings {
		b, err := bytesOf(value)
		if err != nil {
			return err
		}
		m.Settings[name] = b
	}
	return nil
}

func bytesOf(s string) (string, error) {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		if r > 0xff {
			return "", fmt.Errorf("schema change in bytes with the character %U", r)
		}
		b = append(b, byte(r))
	}
	return string(b), nil
}
