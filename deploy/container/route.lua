-- Sends each stable brain MR or CT study to the node; never the node's own results.
function OnStableStudy(studyId, tags, metadata)
  for _, series in ipairs(ParseJson(RestApiGet('/studies/' .. studyId .. '/series'))) do
    local modality = series['MainDicomTags']['Modality']
    if modality == 'MR' or modality == 'CT' then
      SendToModality(series['ID'], 'node')
    end
  end
end
