package pipeline

import (
	"fmt"
	"strings"
)

// modifierKind says how a type's atttypmod is printed.
type modifierKind int

const (
	lengthAndHeader modifierKind = iota + 1 // characters, plus 4 for the header (VARHDRSZ)
	plainNumber                             // bits, or digits of seconds
	precisionScale                          // numeric: precision in the upper half, scale in 11 bits, plus 4
)

// modifierKinds are the types whose values a wider modifier lets grow: rows written after such an ALTER TABLE
// don't fit the older definition, or are rounded by it. OIDs from src/include/catalog/pg_type.dat; each type
// is followed by its array.
var modifierKinds = map[uint32]modifierKind{
	1042: lengthAndHeader, 1014: lengthAndHeader, // bpchar
	1043: lengthAndHeader, 1015: lengthAndHeader, // varchar
	1560: plainNumber, 1561: plainNumber, // bit
	1562: plainNumber, 1563: plainNumber, // varbit
	1083: plainNumber, 1183: plainNumber, // time
	1266: plainNumber, 1270: plainNumber, // timetz
	1114: plainNumber, 1115: plainNumber, // timestamp
	1184: plainNumber, 1185: plainNumber, // timestamptz
	1700: precisionScale, 1231: precisionScale, // numeric
}

// modifierText prints a column's modifier as format_type does, "(10,2)" for instance, and "" for none or for a
// type that is not in modifierKinds.
func modifierText(oid uint32, modifier int32) string {
	if modifier < 0 {
		return ""
	}
	switch modifierKinds[oid] {
	case lengthAndHeader:
		return fmt.Sprintf("(%d)", modifier-4)
	case plainNumber:
		return fmt.Sprintf("(%d)", modifier)
	case precisionScale:
		// numeric_typmod_scale, src/backend/utils/adt/numeric.c
		m := modifier - 4
		return fmt.Sprintf("(%d,%d)", m>>16&0xffff, (m&0x7ff^1024)-1024)
	}
	return ""
}

// printedModifier takes the modifier out of a type as format_type prints it.
func printedModifier(oid uint32, printed string) string {
	from, to := strings.IndexByte(printed, '('), strings.IndexByte(printed, ')')
	if modifierKinds[oid] == 0 || from < 0 || to < from {
		return ""
	}
	return printed[from : to+1]
}
