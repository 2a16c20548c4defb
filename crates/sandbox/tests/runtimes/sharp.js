const sharp = require('sharp');

async function main() {
  const create = {width: 400, height: 300, channels: 3, background: 'red'};
  const jpeg = await sharp({create}).resize(100).rotate(30).jpeg().toBuffer();
  const {format} = await sharp(jpeg).metadata();
  console.log(format === 'jpeg' ? 'works' : format);
}

main();
