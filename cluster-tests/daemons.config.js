// All that is not in `guests.config.js`.
import all from './ava.config.js'
import guests from './guests.config.js'

export default { ...all, files: [...all.files, ...guests.files.map((files) => `!${files}`)] }
