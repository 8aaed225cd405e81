/** The sign of the house. */
export function Mark() {
  return (
    <svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
      <rect width="32" height="32" rx="8" className="mark-ground" />
      <g fill="none" stroke="#fff" strokeWidth="2.4" strokeLinejoin="round">
        <path d="M16 5.5 25.5 11v10L16 26.5 6.5 21V11z" />
        <path d="M6.5 11 16 16.5 25.5 11M16 16.5v10" />
      </g>
    </svg>
  );
}
